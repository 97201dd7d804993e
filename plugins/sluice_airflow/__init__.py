"""Airflow code shared by the Dags: the doorbell trigger, and defaults and callbacks of all tasks.

Airflow puts this folder on `sys.path` of the dag processor, the triggerer and each worker.
"""
