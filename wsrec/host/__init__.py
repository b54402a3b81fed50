"""This machine: clocks and their anchors, processors, privileges, network interfaces."""
