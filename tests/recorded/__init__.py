"""
What a user can see, compared with what was recorded: text files in `data/`.

These tests name nothing of the package. They run `twistd realtime`, connect to it
over the network, and compare a transcript with a file. A change of a file is a
change that users notice. `RECORD=1 pytest tests/recorded` writes the files anew;
the diff of `data/` then belongs into the commit, and a line into CHANGES.md.

What differs from one run to the next is replaced in the transcript, such as
dates, ids and the epoch of the log; so is the text of errors, whose status
matters and whose wording may improve.
"""
