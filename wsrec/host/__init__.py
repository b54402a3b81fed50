"""This machine: clocks and anchors, processors, privileges, network interfaces. Imports no receive or writer code."""
