"""Bytes of an uploaded file → pages and blocks with exact offsets, and its pictures where they are wanted.

`sniff` tells what a file is, `reader.Reader` reads it. The parsers themselves (`pdf`, `docx` on `package` and
`drawings`), the takers of pictures (`figures_pdf`, `figures_docx`, on `encode`) and `render` only ever run in the
limited child process `child`, because hostile files make them crash or take all memory; `process` and `pictures` are
the parent's side of it and `budget` how much one file may take. `clean` is the one place where text is made safe,
`layout` turns lines with positions into paragraphs, lists and tables, `structure` decides what is a heading and what
merely repeats on every page, `figures` which pictures are figures and what is said beside them.
"""
