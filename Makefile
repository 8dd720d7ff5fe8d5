# The few recipes that are used daily. `make demo` and `make test` are the README's two commands.
.PHONY: demo test check docs lock

demo:
	./scripts/demo

test:
	./scripts/test

check:
	./.ci/run

docs:
	./scripts/docs

lock:
	./scripts/lock
