"""Official files: fetched, hashed, converted, and compared with the original networks.

`keras-dpt verify` is the command. Each file goes through three processes, one after the other, so
that one network at a time is in memory: this one fetches, `worker` converts and predicts, and
`worker` again runs the original network on the same images.
"""
