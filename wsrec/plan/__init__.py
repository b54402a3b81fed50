"""The plan: a feed and symbols become connections and subscription requests."""
