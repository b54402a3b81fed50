"""Getting to a host: names, addresses, proxies, trust."""
