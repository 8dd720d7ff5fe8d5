"""Ask models: one method, `complete(request)`, and layers around it, put together in `stack`.

Import from the modules themselves: planning, and a run that sends nothing, load no HTTP client then.
"""
