"""Tables in the forms of other tools: hftbacktest, nautilus, tardis."""
