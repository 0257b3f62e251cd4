"""Kafka: records become events, and tasks become records (Camunda docs, "Kafka connector")."""
