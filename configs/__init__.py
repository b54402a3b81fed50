"""The feed catalogue: one YAML file an exchange market, packaged as `wsrec.configs`."""
