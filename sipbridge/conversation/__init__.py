"""What a conversation is made of; `call.py` puts it together, and is read first.

Each part is given the `CallContext` (what all of them share) and the parts it needs, and is told what happens by
`CallSession`, synchronously. None of them asks which vendor or which kind of leg it has.
"""
