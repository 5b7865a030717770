#!/bin/sh
# The old deployment script: it calls the backup script, then works out the name once more by itself.
set -e
OUTPUT=$(sh "$(dirname "$0")/old_backup.sh" 2>&1)
STAMP=$(date +%Y%m%d_%H%M%S)
if [ ! -f "$BACKUPS/cloud_backup_$STAMP.sql" ]; then
    echo "Backup file not found: cloud_backup_$STAMP.sql"
    exit 1
fi
echo "Deploying from ${DATABASE_URL%%@*}@***"
