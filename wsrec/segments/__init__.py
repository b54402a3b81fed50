"""The arrival of each TCP segment, captured beside the sockets, for the stamps that a read cannot give."""
