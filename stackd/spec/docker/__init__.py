"""What a document means in the words of the Docker Engine's API: the requests that the official client would send.

Where the client only checks that something can be said at all, so does this; whether it makes sense is `check`'s to say.
"""
