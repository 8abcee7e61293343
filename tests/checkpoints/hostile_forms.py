"""YAML that would run code, write a file or use up the machine. TOUCH: a command."""

VALUES = {
    # PyYAML's and HyperPyYAML's tags
    "apply": "!apply:os.system [TOUCH]",
    "applyref": "!applyref:os.system [TOUCH]",
    "applyref of getattr": "!applyref:getattr [x, y]",
    "new of a process": "!new:subprocess.Popen [[sh, -c, TOUCH]]",
    "name": "!name:os.system [TOUCH]",
    "name without arguments": "!name:os.system",
    "module": "!module:antigravity",
    "include": "!include:/etc/passwd",
    "copy": "!copy <frontend>",
    "placeholder": "!PLACEHOLDER",
    "python apply": "!!python/object/apply:os.system [TOUCH]",
    "python new": "!!python/object/new:subprocess.Popen [[sh, -c, TOUCH]]",
    "python object": "!!python/object:subprocess.Popen {args: [sh, -c, TOUCH]}",
    "python name": "!!python/name:os.system",
    "python module": "!!python/module:antigravity",
    "python tuple": "!!python/tuple [1, 2]",
    "python dict": "!!python/dict {a: 1}",
    "python long": "!!python/long 3",
    "python bytes": "!!python/bytes aGk=",
    "binary": "!!binary aGk=",
    "set": "!!set {a, b}",
    "omap": "!!omap [a: 1]",
    "timestamp tag": "!!timestamp 2001-01-01",
    "text tag": "!!str 32",
    "verbatim": "!<!apply:os.system> [TOUCH]",
    "verbatim python": "!<tag:yaml.org,2002:python/object/apply:os.system> [TOUCH]",
    "escaped tag": "!%61pply:os.system [TOUCH]",
    "escaped python": "!!%70ython/object/apply:os.system [TOUCH]",
    "bare tag": "! 32",
    # Scalars that look like tuples
    "tuple": "(!!python/object/apply:os.system [TOUCH])",
    "tuple in quotes": "\"(!!python/object/apply:os.system ['TOUCH'])\"",
    "tuple in single quotes": "'(!!python/object/apply:os.system [TOUCH])'",
    "tuple with escapes": r'"\x28!!python/object/apply:os.system [TOUCH]\u0029"',
    "tuple over lines": "(!!python/object/apply:os.system\n      [TOUCH])",
    "tuple folded": ">-\n      (!!python/object/apply:os.system\n      [TOUCH])",
    "tuple literal": "|-\n      (!!python/object/apply:os.system [TOUCH])",
    "tuple tag": "!tuple (!!python/object/apply:os.system [TOUCH])",
    "tuple in a tuple": "((1, 2), !!python/name:os.system )",
    "tuple in a list": "\n    - 1\n    - (!!python/object/apply:os.system [TOUCH])",
    "tuple as key": "{\"(!!python/object/apply:os.system ['TOUCH'])\": 1}",
    "tuple as complex key": "\n    ? (!!python/object/apply:os.system [TOUCH])\n"
    "    : 1",
    "tuple by reference": "!ref (!!python/object/apply:os.system [TOUCH])",
    "tuple of an alias": "&x (!!python/object/apply:os.system [TOUCH])",
    # Keys
    "tag as key": "{? !apply:os.system [TOUCH] : 1}",
    "merge key": "{<<: {a: 1}}",
    "list as key": "{[1, 2]: 3}",
    # References
    "attribute": "!ref <frontend.__class__>",
    "reference to nothing": "!ref <nothing>",
    "reference to itself": "!ref <encoder[d_ffn]>",
    "power": "!ref 9 ** 9 ** 9",
    "division by zero": "!ref 1 / 0",
    "call": "!ref __import__('os').system('TOUCH')",
    "brackets": "!ref " + "(" * 190,
    # Classes that do things, and ways to reach others
    "optimizer": "!new:torch.optim.SGD {params: []}",
    "dataset": "!new:speechbrain.dataio.legacy.ExtendedCSVDataset {csvpath: VICTIM}",
    "optimizer of a dataset": "!new:torch.optim.SGD {params: !new:speechbrain."
    "dataio.legacy.ExtendedCSVDataset {csvpath: VICTIM}}",
    "Checkpointer": "!new:speechbrain.utils.checkpoints.Checkpointer [VICTIM]",
    "SentencePiece": "!new:speechbrain.tokenizers.SentencePiece.SentencePiece "
    "{model_dir: VICTIM, vocab_size: 9}",
    "own checkpointer": "!new:speechbrain_birq.checkpoints.checkpointer."
    "AtomicCheckpointer {checkpoints_dir: VICTIM}",
    "own log": "!new:speechbrain_birq.brains.RunLog {folder: VICTIM}",
    "own run folder": "!new:speechbrain_birq.inference.PretrainedEncoder "
    "{run_folder: x}",
    "attribute of a module": "!new:speechbrain.utils.superpowers.subprocess.Popen [x]",
    "attribute of a room": "!new:speechbrain_birq.models.encoders.torch.nn.Linear "
    "[1, 2]",
    "function": "!new:speechbrain.utils.superpowers.run_shell [TOUCH]",
    "attribute of a class": "!new:torch.nn.Linear.__class__ [1, 2]",
    "class of Python": "!new:builtins.open [VICTIM, w]",
    "similar name": "!new:speechbrain_birq_evil.Encoder",
    "package": "!new:speechbrain.utils.superpowers",
    "no name": "!new:",
    "dots": "!new:..os",
    "listed class in a wrong place": "!new:torch.nn.Linear [4, 4]",
    "own class in a wrong place": "!new:speechbrain_birq.models.LinearInput "
    "{input_dim: 4, d_model: 4}",
    # Numbers
    "NaN": ".nan",
    "infinity": "-.inf",
    "huge": "1e400",
    "huge integer": "9" * 5000,
    "negative": "-32",
    "zero": "0",
    "fraction": "3.5",
    "truth": "true",
    "text": "many",
    "hexadecimal": "0xFFFFFFFF",
    "binary number": "0b11",
    "underscores": "1_000_000",
    "width": "1000000",
    "date": "2001-01-01",
    # Shapes
    "mapping": "{a: 1}",
    "list": "[1, 2]",
    "long text": '"' + "x" * 20_000 + '"',
    "deep": "[" * 99 + "]" * 99,
    "deeper": "[" * 500 + "]" * 500,
    "deep blocks": "\n      " + "- " * 5000 + "1",
    "alias to nothing": "*nothing",
    "alias to itself": "&x [*x]",
    "key twice": "32\n  d_ffn: 32",
    "many values": "[" + "1, " * 30_000 + "]",
}

# Lines below a complete file
LINES = {
    "note": 'note: (!!python/object/apply:os.system ["TOUCH"])',
    "apply": "note: !apply:os.system [TOUCH]",
    "plain key": "note: 1",
    "tuple as key": "(!!python/object/apply:os.system [TOUCH]): 1",
    "complex key": "? !apply:os.system [TOUCH]\n: 1",
    "second document": "---\nfrontend: !apply:os.system [TOUCH]",
    "end and a directive": "...\n%YAML 1.1\n---\na: 1",
    "part twice": "encoder: !apply:os.system [TOUCH]",
    "merge": "<<: {encoder: 1}",
    "alias bomb": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
}

# Bytes before a complete file
HEADS = {
    "tag of a handle": b"%TAG !! !include:evil/\n---\n",
    "tag of another handle": b"%TAG !x! !apply:os.\n---\n",
    "version": b"%YAML 1.1\n---\n",
    "unknown directive": b"%EVIL 1\n---\n",
    "directive after a mark": b"\xef\xbb\xbf%TAG !! !new:\n---\n",
    "directive after a separator": b"# x\xe2\x80\xa8%TAG !! !new:\n---\n",
    "another document": b"a: 1\n---\n",
    "zero": b"\x00",
    "Latin-1": b"# \xe9\n",
    "escape": b"# \x1b[2J\n",
}
