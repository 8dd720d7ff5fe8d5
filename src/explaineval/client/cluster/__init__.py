"""Send requests from worker processes on a Ray cluster; all limits, the cache and the results stay where the run is.

`ray_workers` starts the workers and hands calls to them, `worker` is what runs there, `messages` is what travels.
"""
