run_sql() {   # run_sql CONNECTION [OPTION …]: psql that stops at the first error
  to=$1
  shift
  psql --no-psqlrc --quiet --pset=pager=off --set=ON_ERROR_STOP=1 --set=live="$LIVE" --set=shadow="$SHADOW" \
    --set=kept="$KEPT" --set=undone="$UNDONE" --set=work="$WORK" --dbname="$to" "$@"
}

unpack() {   # decompress the restore point, whatever its file name is
  case $(head -c 4 "$POINT" | od -An -tx1 | tr -d ' \n') in
    1f8b*) gzip -dc "$POINT" ;;
    28b52ffd) zstd -dc "$POINT" ;;
    fd377a58) xz -dc "$POINT" ;;
    425a68*) bzip2 -dc "$POINT" ;;
    04224d18) lz4 -dc "$POINT" ;;
    *) cat "$POINT" ;;
  esac || : > "$WORK/unpack.failed"
}

kind_of_point() {   # archive (custom, tar or directory format) or plain (SQL)
  if [ -d "$POINT" ]; then echo archive
  elif [ "$(unpack | head -c 5 | tr -d '\0')" = PGDMP ]; then echo archive
  elif [ "$(unpack | head -c 262 | tail -c 5 | tr -d '\0')" = ustar ]; then echo archive
  else echo plain; fi
  rm -f "$WORK/unpack.failed"   # head closed the pipe early
}

archive_to() {   # archive_to OPTION …: pg_restore, from the file if it is seekable
  if [ -d "$POINT" ]; then pg_restore "$@" "$POINT"
  elif [ "$(head -c 5 "$POINT" | tr -d '\0')" = PGDMP ]; then pg_restore "$@" "$POINT"
  else unpack | pg_restore "$@"; fi
}
