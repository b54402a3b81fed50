"""A capture, a recording or a synthetic market, served back as an exchange."""
