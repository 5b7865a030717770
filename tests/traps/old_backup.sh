#!/bin/sh
# The old backup script: it names the file after the moment at which it starts.
set -e
STAMP=$(date +%Y%m%d_%H%M%S)
mkdir -p "$BACKUPS"
pg_dump --no-owner --no-acl --clean --if-exists "$DATABASE_URL" > "$BACKUPS/cloud_backup_$STAMP.sql"
