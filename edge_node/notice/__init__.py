"""The notice that tells people in a room that a node listens there, as a page to print.

`words` (what it says, in each language) and `facts` (who, where, what for) meet in `as_html` and `as_pdf`; `pictures`
draws the microphone and the QR code for both, `font` has their letters, `paper` writes them on the PDF's page, and
`command` is what `sottovoce-node notice` does with its `options`.
"""
