"""What the Dags share that speaks Airflow: the doorbell trigger, and what every task starts from and does at its end.

Airflow puts this folder on `sys.path` of the dag processor, the triggerer and each worker.
"""
