"""
Uploads in one request: a body that is a file, and forms.
"""

from __future__ import annotations

from rt_twisted.actions.upload.disk_writer import DiskWriter
from rt_twisted.actions.upload.events import UploadedFile, UploadEvents
from rt_twisted.actions.upload.folder import UploadFolder, new_id
from rt_twisted.actions.upload.new_file import NewFile
from rt_twisted.actions.upload.rules import UNKNOWN_TYPE, UploadRules, answer_uploaded, file_type
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.file_names import header_name, safe_name
from rt_twisted.codecs.form_files import FilePart, FormFiles
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


async def receive_file(
    rules: UploadRules, exchange: IExchange, channel: str, path_name: str
) -> None:
    """
    Store the body of a request as a file, and answer when it is on the disk.

    Args:
        rules: of the route.
        exchange: authorized. `X-File-Name` and `X-File-Type` describe the file.
        channel: of the events; "" for none.
        path_name: name of the file without `X-File-Name`; "" for none.

    Raises:
        HttpError: 413, 415, 507; see `IExchange.receive`.
        ConnectionLost: the client has disconnected.
    """
    given = exchange.header("x-file-name")
    name = safe_name(path_name if given is None else header_name(given))
    kind = exchange.header("x-file-type") or exchange.header("content-type") or ""
    if kind.lower() == UNKNOWN_TYPE:
        kind = ""
    type = file_type(kind, name)
    rules.check_type(type)
    rules.check_length(exchange.length)
    id = new_id()
    events = UploadEvents(rules.context, channel, id, name, exchange.length)
    threads = rules.threads
    file = await threads.run(NewFile, rules.folder, id)
    try:
        writer = DiskWriter(
            exchange, threads, rules.context.reactor, file.append, rules.limit, events.progress
        )
        writer.start()
        await writer.done
        final, digest = await threads.run(file.finish, name)
    except BaseException:
        await threads.run(file.discard)
        raise
    uploaded = UploadedFile(id, final, file.size, type, digest)
    await events.uploaded(uploaded)
    answer_uploaded(exchange, [uploaded])


async def receive_form(rules: UploadRules, exchange: IExchange, channel: str) -> None:
    """
    Store the files of a form, all or none of them, and answer when they are on the disk.

    Args:
        rules: of the route. The whole form may have as many bytes as one file.
        exchange: authorized.
        channel: of the events; "" for none.

    Raises:
        HttpError: 400, 413, 415, 507; see `IExchange.receive`.
        ConnectionLost: the client has disconnected.
    """
    rules.check_length(exchange.length)
    try:
        form = _Form(rules, exchange.header("content-type") or "")
    except RemoteProtocolError as error:
        raise HttpError(error.status, error.reason) from None
    id = new_id()
    threads = rules.threads
    events = UploadEvents(rules.context, channel, id, "", exchange.length)
    writer = DiskWriter(
        exchange, threads, rules.context.reactor, form.append, rules.limit, events.progress
    )
    writer.start()
    try:
        await writer.done
        files = await threads.run(form.finish)
    except BaseException:
        await threads.run(form.discard)
        raise
    for file in files:
        await events.uploaded(file)
    answer_uploaded(exchange, files, form=True)


class _Form:
    """
    The files of one form. The methods block, and run in threads.
    """

    def __init__(self, rules: UploadRules, content_type: str) -> None:
        self._folder: UploadFolder = rules.folder
        self._rules = rules
        self._reader = FormFiles(content_type)
        self._files: list[tuple[str, NewFile, str, str]] = []  # with id, name and type

    def append(self, block: bytearray) -> None:
        """
        Receive the next bytes of the form.

        Raises:
            HttpError: 400, it is malformed; 415, a file has another type; 507, the disk is full.
        """
        try:
            found = self._reader.feed(bytes(block))
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason) from None
        for thing in found:
            if not isinstance(thing, FilePart):
                self._files[-1][1].append(thing)
                continue
            name = safe_name(thing.name)
            type = file_type(thing.type, name)
            self._rules.check_type(type)
            if self._files and self._folder.file:
                raise HttpError(400, "the form has more than one file")
            if self._files:
                self._files[-1][1].end()  # a form with many files must not hold all of them open
            id = new_id()
            self._files.append((id, NewFile(self._folder, id), name, type))

    def finish(self) -> list[UploadedFile]:
        """
        Give all files their names.

        Raises:
            HttpError: 400, the form is not complete, or has no file.
        """
        try:
            self._reader.end()
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason) from None
        if not self._files:
            raise HttpError(400, "the form has no file")
        uploaded = []
        for id, file, name, type in self._files:
            final, digest = file.finish(name)
            uploaded.append(UploadedFile(id, final, file.size, type, digest))
        return uploaded

    def discard(self) -> None:
        """
        Remove the files that are not finished.
        """
        for _, file, _, _ in self._files:
            file.discard()
