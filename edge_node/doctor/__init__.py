"""`sottovoce-node doctor`: what is wrong with a node, and what to do about it.

    who runs?  ->  the service answers at its socket:  what it says of sound, model, broker
               ->  nobody does:                        look for oneself, as the node would
               ->  somebody does, and does not answer: look at what disturbs nobody

Two connections with one name throw each other out, so the doctor connects in the node's name only when no node runs.
"""
