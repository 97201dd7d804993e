"""What the Dags share that speaks Airflow: the doorbell trigger and the arguments of every task.

Airflow puts this folder on `sys.path` of the dag processor, the triggerer and each worker.
"""
