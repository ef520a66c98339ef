"""sipbridge: a telephony gateway that lets a phone call talk to a realtime speech model."""

__version__ = "0.1.0"

__all__ = ["__version__"]
