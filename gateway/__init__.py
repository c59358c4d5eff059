"""How it is reached: aggregators' wire formats, the hop, the web pages."""
