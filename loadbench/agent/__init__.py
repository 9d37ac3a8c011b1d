"""What runs inside a Locust process: stdlib, locust and requests only.

`python -m loadbench.agent` is Locust with the recording plugin. `import locust` patches the process with gevent, so
nothing outside this folder imports `plugin`; `histogram` and `wire` are plain modules that the receiver shares.
"""
