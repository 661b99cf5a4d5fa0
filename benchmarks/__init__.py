"""One module, one question about speed; results/ holds the figures."""
