"""What receiving, handing off and recording cost on this machine, beside other clients: `wsrec bench`.

- frames: what is sent, in shared memory
- sender: the process that sends it, as fast as it is taken or at a pace
- contestants: who takes part: wsrec in its forms, and other clients
- receiver: wsrec's receiver process, driven through its rings
- clients: the other clients, each in a process of its own
- setup: what every measurement uses: frames, certificates, processors
- process: a child process
- saturated, paced, recording: the three measurements
- run: all of them, the contestants in turn
- progress: how it goes, on standard error
- results: the figures, as they are written to JSON
- table: the figures as tables
"""
