"""Benchmarks: the cost of receiving, handing off and recording on this machine, compared with other clients.

- frames: the frames to send, in shared memory
- sender: the process that sends them, at full speed or at a pace
- contestants: the configurations of wsrec and the other clients
- receiver: wsrec's receiver process, driven through its rings
- clients: the other clients, each in its own process
- tree_meter: CPU time of a recorder with its processes
- setup: shared by all measurements: frames, certificates, processors
- process: a child process
- saturated, paced, recording: the three measurements
- run: all of them, the contestants in turn
- progress: progress display on standard error
- results: the figures, as stored in JSON
- table: the figures as tables
"""
