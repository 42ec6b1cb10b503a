"""`sottovoce-node privacy-check`: the node's word that audio stays in its memory, put to the test.

    known signal -> the real program, under strace -> every byte that it wrote or sent -> explained, searched, counted

`run` lets the node hear a made recording while strace notes each of its calls, `trace` and `deeds` turn the notes into
what was written where, `wire` and `accounts` say what each byte is, `search` looks for the signal, its features and
embeddings in what there is, `amount` counts what the messages could carry at most, `verdicts` judges, and `planted`
proves each time, on the very bytes of this run, that the search would have found a leak. See docs/adr/0022.
"""
