-- Retention by domain: what an operator set for one of them. Null: as the settings say; 0: for ever.
CREATE TABLE domain_retention (
    domain_id         uuid PRIMARY KEY REFERENCES domains ON DELETE CASCADE,
    mail_days         double precision CHECK (mail_days >= 0),
    attachment_hours  double precision CHECK (attachment_hours >= 0),
    event_days        double precision CHECK (event_days >= 0)
);
