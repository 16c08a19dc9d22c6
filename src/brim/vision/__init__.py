"""Ready algorithms for pictures: faces, bodies, hands, things, text, where a person is, what it is.

from brim.vision import Face
faces = Face().detect("photo.jpg")

Every kit takes `threads` and `mode`, and has `detect(image)` and `follow(frames)`. Models come from
`brim zoo`, at first use; after that nothing here needs a network.
"""
