"""What runs inside a sandbox worker: serves calls over a socket or pipes, one at a time, and measures each.

Self-contained on purpose: the standard library only, and few of its modules, because the memory of the process that
forks is a floor under every peak RSS it reports. The same files run as a directory (`python3 -I -S -B DIR`) and import
as a package, so siblings use relative imports throughout.
"""
