-- What is personal is a token ('dk1.…') in its column; what is left in the clear says nothing of anybody.
CREATE TABLE IF NOT EXISTS people (
  tenant text NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  email text NOT NULL,
  phone text NOT NULL,
  address text NOT NULL,
  email_index text NOT NULL,
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, email_index)
);
