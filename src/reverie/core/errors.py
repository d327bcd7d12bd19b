"""The one kind of error a person is meant to read."""


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the thing and says what to do about it. The command line prints
    it and exits with code 2; any other exception that reaches a user is a defect.

    >>> raise BadInput("no such folder: holiday; give the path of a folder of pictures")
    Traceback (most recent call last):
    reverie.core.errors.BadInput: no such folder: holiday; give the path of a folder of pictures
    """
