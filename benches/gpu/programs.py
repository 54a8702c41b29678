"""Names and paths of programs in cargo's messages.

    programs.py MESSAGES.json NAME...
"""

import json
import sys

file, *names = sys.argv[1:]
with open(file) as lines:
    built = [message for message in map(json.loads, lines) if message.get("executable")]
for message in built:
    if message["target"]["name"] in names:
        print(message["target"]["name"], message["executable"])
