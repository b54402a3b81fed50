"""What is asked for: a feed and symbols become connections and subscriptions."""
