"""Bytes of an uploaded file → pages and blocks with exact offsets.

`sniff` tells what a file is, `reader.Reader` reads it. The parsers themselves (`pdf`, `docx`) and `render` only ever
run in the limited child process `child`, because hostile files make them crash or take all memory; `process` is the
parent's side of it and `budget` how much one file may take. `clean` is the one place where text is made safe, `layout`
turns lines with positions into paragraphs, lists and tables, `structure` decides what is a heading and what merely
repeats on every page.
"""
