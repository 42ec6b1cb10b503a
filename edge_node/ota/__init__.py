"""How a node takes up model updates: what is offered, what the device makes of it, and what is kept of it.

To read it: `table` (the states) and `record` (what is remembered); `choice` (what an offer means), `walk` (what a node
does about it, with `ledger`, `looks`, `download`, `reports` and `timers`) and `updater` (what it is told). The world
outside is `ports`; on a device that is `device`, `folder` and, around it all, `service`. What runs in processes of its
own: `child` (the node's side), `confined` (the child's), `trust`, `proof`, `trial` and `beside`.
"""
