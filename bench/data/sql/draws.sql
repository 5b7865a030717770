-- What the data sets are made of: values that are functions of a row's number, so that the same scale gives the same
-- rows on every server. PostgreSQL's extended hashes are stable, because hash partitions depend on them. All of these
-- functions are inlined: as fast as an expression.
CREATE SCHEMA bench;

-- How many rows that many are at this scale.
CREATE FUNCTION bench.rows(n bigint) RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT greatest(10, round(n * current_setting('bench.scale')::numeric))::bigint $$;

-- The same number from 0 to n-1 every time; salt distinguishes columns.
CREATE FUNCTION bench.draw(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT mod(hashint8extended(i, salt) & 9223372036854775807, n) $$;

-- A moment of the year 2025, to the millisecond.
CREATE FUNCTION bench.moment(i bigint, salt int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$ SELECT timestamptz '2025-01-01 00:00:00+00' + bench.draw(i, salt, 31536000000) * interval '1 millisecond' $$;

-- A word of seven letters on average.
CREATE FUNCTION bench.word(i bigint, salt int) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT ('{amber,bridge,castle,delivery,evening,forest,garden,harbor,invoice,journey,kitchen,lantern,market,northern,
orchard,pepper,quarter,river,summit,timber,upland,velvet,window,yearly,café,menü,rosé,canapé,brown,silver,crescent,
meadow}'::text[])[1 + bench.draw(i, salt, 32)] $$;

-- A phrase of about 38 letters.
CREATE FUNCTION bench.phrase(i bigint, salt int) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT (ARRAY['Asked for the price list of next spring', 'Wants a second sample before the fair',
    'Delivery goes to the back door, ask for Sam', 'Contract is with their legal department', 'Call again after the holidays',
    'Said "perhaps", which means yes', 'Price is fine; terms are not yet', E'Path on the share is C:\\orders\\open',
    'Prefers mail to the telephone', 'The old supplier has raised his prices', 'Met at the fair, hall 4, stand 117',
    'Budget is decided in the third quarter', 'Needs halal and kosher certificates', 'Asked who else buys from us',
    'Pays within ten days, always', 'Would take the whole container', 'Not before the new kitchen is built',
    'Wrote to accounting about the credit note', 'Has moved to another company', 'Sent the brochure in French',
    'The chef decides, not the buyer', 'Two pallets were damaged on arrival', 'Interested in private label',
    'Asked for a visit in November', 'Quote was too late for this season', 'Wants to see the factory first',
    'Will reorder when stock is low', 'Signed; the paper copy is in the post', 'Competitor offers four percent less',
    'Reminded of the open invoice', 'Introduced us to the sister company', 'Happy with the last delivery'])
    [1 + bench.draw(i, salt, 32)] $$;
