"""What two programs must agree on, written once.

The node, the trainer, the collector and the console never import each other. What they share is here:

- `topics`: the one table of topics; the ACL, the AsyncAPI document and the docs are generated from it.
- `messages`: the payloads, as frozen structs that refuse what they do not know.
- `features`: audio window to model input (mel bands or MFCC, pitch, normalisation), in numpy alone; `mel` and `pitch`
  are its parts.
- `windows`: a stream of blocks to overlapping windows; `stream`: those windows with their features, each frame analysed
  once.
- `decision`: class probabilities to a decided label, and when a label is worth an event.
- `bundle`: the archive that carries a model together with all of the above.
- `release`: what is signed about bundles and rollouts, and which node takes up what.
- `errors`: the tree of errors that a user can meet.
"""
