"""A registered model behind MLflow's scoring protocol."""
