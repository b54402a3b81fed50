"""Benchmarks: the cost of receiving, handing off and recording on this machine, compared with other clients.

- frames: the frames to send, in shared memory
- sender: the process that sends them, at full speed or at a pace
- conversation: its side of a connection, which encrypts ahead
- contestants: the configurations of wsrec and the other clients
- receiver: wsrec's receiver process, driven through its rings
- clients: the other clients, each in its own process
- tree_meter: CPU time of a recorder with its processes
- bare: the baselines among them
- client_job: what such a process is told, and measures
- cpu_time: CPU time of a process, and how much of it in user space
- setup: shared by all measurements: frames, certificates, processors
- process: a child process
- saturated, paced, recording: the three measurements
- limits: what this machine can do at best; compiled in `_limits`
- floor: wsrec's steps beside a loop in C that does nothing else
- threads: functions on processors of their own
- run: all of them, the contestants in turn
- progress: progress display on standard error
- results: the figures, as stored in JSON
- table, limit_tables: the figures as tables
- table_parts: what these are made of
"""
