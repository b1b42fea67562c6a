"""
Explanations for the log of TLS handshakes with servers that have failed.
"""

from __future__ import annotations

from OpenSSL.SSL import Error as TlsError
from service_identity import VerificationError

_NO_TLS_REASONS = (  # OpenSSL's, if the server does not use TLS
    "wrong version number",
    "http request",
    "unknown protocol",
    "unsupported protocol",
    "packet length too long",
    "record layer failure",
)


def explain_tls(error: object) -> str:
    """
    Return a sentence on why a TLS handshake failed, without a full stop.

    Args:
        error: the exception that ended the connection.

    Returns:
        "" if *error* is not about TLS.
    """
    if isinstance(error, VerificationError):
        return "the server's certificate is for another name"
    if not isinstance(error, TlsError):
        return ""
    found = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reason = ", ".join(str(one[-1]) for one in found) or str(error) or "no reason given"
    if any(words in reason for words in _NO_TLS_REASONS):
        return f"the server does not speak TLS at this port ({reason})"
    if "certificate required" in reason:
        return f"the server requires a client certificate ({reason})"
    if "alert" in reason:
        return f"the server refused the TLS handshake ({reason})"
    if "certificate verify failed" in reason:
        return f"the server's certificate is not trusted ({reason})"
    return f"TLS failed: {reason}"
