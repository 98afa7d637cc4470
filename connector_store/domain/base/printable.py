"""Text that users wrote, for an output: a terminal, a log, a refusal or the status of an object.

>>> printable("view\\x1b]0;title\\x07\\nteam-a/k8s yes")
'view?]0;title??team-a/k8s yes'
"""


def printable(text: str) -> str:
    """Replace control characters, line breaks and invisible characters by `?`.

    Invisible characters (Unicode category Cf) include those that change the direction of the text.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
