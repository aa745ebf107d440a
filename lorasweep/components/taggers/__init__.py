"""What says in words what a picture shows, one module each: `build(**knobs) -> protocols.Tagger`.

A tagger's folder is checked by the module's `problems` before anything is loaded. Nothing is downloaded.
"""
