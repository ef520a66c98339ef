"""A history for people: lists, timelines, likely causes."""
