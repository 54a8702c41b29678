-- Which documents go, and for which each goes: a row a document that is left out.
-- Runs on DuckDB and on Spark SQL alike over a table or view `signatures` of all signature files:
--   DuckDB: CREATE VIEW signatures AS SELECT * FROM read_parquet('signatures/part-*.parquet');
--   Spark:  spark.read.parquet("signatures").createOrReplaceTempView("signatures")
SELECT
  id,
  MIN(earliest) AS kept,
  MAX(CASE WHEN band = 0 AND earliest < id THEN 1 ELSE 0 END) = 1 AS exact
FROM (
  SELECT id, band, MIN(id) OVER (PARTITION BY band, high, low) AS earliest
  FROM signatures
) AS shared
GROUP BY id
HAVING MIN(earliest) < id
ORDER BY id
