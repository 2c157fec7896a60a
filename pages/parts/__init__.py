"""Drawing that several pages share."""
