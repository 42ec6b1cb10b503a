"""What two programs must agree on, written once.

The node, the trainer, the collector and the console never import each other. What they share is here:

- `topics`: the one table of topics; the ACL, the AsyncAPI document and the docs are generated from it.
- `messages`: the payloads, as frozen structs that refuse what they do not know.
- `features`: audio window to model input (MFCC, normalisation), in numpy alone.
- `windows`: a stream of blocks to overlapping windows.
- `decision`: class probabilities to a decided label, and when a label is worth an event.
- `bundle`: the archive that carries a model together with all of the above.
- `errors`: the tree of errors that a user can meet.
"""
