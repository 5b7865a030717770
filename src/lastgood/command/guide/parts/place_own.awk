# Of a dump in plain SQL, the entries of the schemas in $SCHEMAS, one a line, and their ties to the other schemas.
# With mode=ties, the ties alone. Ties are made again, so a trigger is replaced, and a policy is dropped before.
BEGIN {
  count = split(ENVIRON["SCHEMAS"], names, "\n")
  for (i = 1; i <= count; i++) own[names[i]] = 1
  count = split(ENVIRON["STAYING"], names, "\n")
  for (i = 1; i <= count; i++) staying[names[i]] = 1
  count = split(ENVIRON["STRANGERS"], names, "\n")
  for (i = 1; i <= count; i++) stranger[names[i]] = 1
  keep = "yes"
  type = "head"
}
function between(text, first, last,   start, end) {
  start = index(text, first)
  if (!start) return ""
  text = substr(text, start + length(first))
  end = index(text, last)
  return end ? substr(text, 1, end - 1) : text
}
function mentions(text,   name, quoted) {
  for (name in own) {
    quoted = name
    gsub(/"/, "\"\"", quoted)
    # A name without quotes may be the end of another one, such as that of a kept schema.
    if (name ~ /^[a-z_][a-z0-9_]*$/ && text ~ ("(^|[^A-Za-z0-9_$\"])" name "\\.")) return 1
    if (index(text, "\"" quoted "\".")) return 1
  }
  return 0
}
# What to do with an entry: keep it, leave it out (no), or decide at its end (key, tie).
function verdict(name, type, schema, owner) {
  if (type == "ACL" && owner in stranger) return "no"
  if (type == "DEFAULT ACL") return schema in own && !(owner in stranger) && (mode != "ties" || schema in staying) ? "yes" : "no"
  if (schema in own) {
    if (type == "FK CONSTRAINT" && mode == "ties") return "key"
    if (type == "PUBLICATION TABLES IN SCHEMA") return "no"
    if (mode == "ties") return type == "PUBLICATION TABLE" || (type == "COMMENT" && index(name, "CONSTRAINT ") == 1) ? "yes" : "no"
    return "yes"
  }
  if (type == "TRIGGER" || type == "POLICY") return "tie"
  if (schema != "-" || mode == "ties") return "no"
  if (type == "SCHEMA") return name in own && !(name in staying) ? "yes" : "no"
  if (type == "ACL" || type == "COMMENT") {
    if (index(name, "SCHEMA ") != 1) return "no"
    name = substr(name, 8)
    return name in own && !(name in staying) ? "yes" : "no"
  }
  return "no"
}
function finish(   policy) {
  if (keep == "key" && entry !~ / REFERENCES /) entry = ""
  if (keep == "key" && !mentions(between(entry, " REFERENCES ", "("))) printf "%s", entry
  if (keep == "tie" && mentions(entry)) {
    sub(/\nCREATE TRIGGER /, "\nCREATE OR REPLACE TRIGGER ", entry)
    if (match(entry, /\nCREATE POLICY ("([^"]|"")*"|[^ "]+) ON ("([^"]|"")*"|[^ ."]+)\.("([^"]|"")*"|[^ ."]+)/)) {
      policy = substr(entry, RSTART + 1, RLENGTH - 1)
      sub(/^CREATE POLICY/, "DROP POLICY IF EXISTS", policy)
      print policy ";"
    }
    printf "%s", entry
  }
  entry = ""
}
copying { if (keep == "yes") print; if ($0 == "\\.") copying = 0; next }
held && /^-- (Data for )?Name: .*; Type: [A-Z ]+; Schema: .*; Owner: / {
  finish()
  if (type == "head" && ENVIRON["RESTRICT"] && !restricted) { print "\\restrict byhand"; closing = "\\unrestrict byhand" }
  type = between($0, "; Type: ", "; Schema: ")
  owner = between($0, "; Owner: ", "; Tablespace: ")
  schema = between($0, "; Schema: ", "; Owner: ")
  keep = verdict(between($0, "Name: ", "; Type: "), type, schema, owner)
}
{ held = $0 == "--" }
type == "head" && /^\\restrict / { restricted = 1 }
/^\\unrestrict / || /^SET default_(tablespace|table_access_method) = / { print; next }
type == "TABLE DATA" && /^COPY .* FROM stdin;$/ { copying = 1 }
# A text in a row could look like the head of an entry.
type == "TABLE DATA" && /^INSERT INTO / {
  print "cannot extract: the dump has rows as INSERT commands; use one made without --inserts" > "/dev/stderr"
  exit failed = 1
}
keep == "yes" { print; next }
keep == "key" || keep == "tie" { entry = entry $0 "\n" }
END { if (failed) exit 1; finish(); if (closing) print closing }
