"""Services that do one part of an agent's work: voices, transcribers, language models; and what is made of them.

Each is a `Part`: one channel, a vendor's protocol without I/O. `voiced.py` puts a voice behind a model that writes,
`talk.py` makes such a model of a transcriber and a language model.
"""
